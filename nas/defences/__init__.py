"""Defences, one file each: `defend(setup, teachers) -> TrainSetup`."""
