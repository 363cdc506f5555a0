"""The same search through NNI, an optional extra: `engine` in this process, `service` as an NNI experiment."""
