"""Defences, one file each. A defence changes how a candidate is trained, or what its deployed network answers.

A file provides `defend(setup, teach, **parameters) -> TrainSetup`, and whichever of these it needs:

- `PARAMETERS`: what a search samples for each parameter unless the user says otherwise, written as in a configuration:
  one value, a list, or a range `{"low": 0.05, "high": 2.0, "log": True}`; put the strongest last.
- `check(**parameters)`: raises a `ValueError` for values that make no sense.
- `NEEDS = ("reserve",)`: asks for labelled records beside the members, `setup.reserve`.
- `EXITS = True`: its own step or watch knows that a network with early exits gives a tuple of logits, one for each exit
  (`nas.training.exits.joint_loss`). Without it, such networks are refused; a `loss` on logits needs nothing.
- `KEEPS_LOSS = True`: its own step follows the set-up's loss and targets, whatever else it does. Without it, a defence
  that changes these is refused beside it.
- `answers(**parameters) -> nn.Module`: what the deployed network's logits pass through before anyone sees them
  (`nas.training.answers`); with `write_onnx` it can be exported.
- `delay(**parameters) -> float`: by how much the device holds back answers of early exits, so that their time does not
  tell the exit (`nas.pricing.exit_delays`): the standard deviation of the wait, as a share of the time between the
  first exit and the last. Mean latencies then hold the wait, and audits read from an answer's time what it still tells.
  A search in which no network has early exits is refused.

Who calls what, and when:

1. Before any training, `nas.search.plan` reads `PARAMETERS`, puts the user's `[defence_parameters.NAME]` over them and
   calls `check` with the ends of every range. What is a list or a range is sampled for every candidate as
   `NAME.parameter`, whichever defence the candidate gets: spaces are fixed. A candidate keeps, in its key too, only the
   parameters of its own defence, without those that are at a default of `defend`: a parameter that is added with a
   default (in `check` and `answers`, too) changes no key from before.
2. For each candidate, `nas.training.assess` makes the plain set-up of the members, with `answers(**parameters)` and,
   where asked for, a part of the reserve in it, and calls `defend` once. `defend` returns another set-up
   (`dataclasses.replace`). It gets no validation, test or non-member record. `setup.members.groups` says which members
   belong together.
3. `teach(setup, rows=..., about=...)` trains a plain teacher, or fetches one that this study trained before, and
   returns its logits. `rows` leaves records out, so that a teacher can speak of records it has never seen. Each call
   counts as one of the candidate's `trainings`. Unless the user wants twins, the study has one network for all teachers
   and it takes the place of the set-up's: choose `rows` by the records and not by the seed, and candidates share them.
4. `nas.training.loop.train` trains the set-up. It calls `setup.make_step` and `setup.make_watch` once with the network
   and the optimizer, then the step for every batch of `setup.batches`, and the watch after every epoch. What is
   remembered between batches belongs into `make_step`, never into the set-up: it may be trained more than once. Where
   the recipe's pruning is `safecompress`, there are branches for some epochs: each takes the step for the same batch,
   with a network and an optimizer state of its own, and all share whatever else the step remembers.
5. The trained network gets `setup.answers` and `setup.delay`, and is measured, attacked and written down. What the
   set-up states as its `guarantee` (`{"epsilon": 8.0, "delta": 1e-5}`) becomes measures of the candidate.
6. An audit does 2 to 4 for each shadow network, with the same parameters and the same part of the reserve, on the
   shadow's own members. Picks, exports, post-training versions and audits build the network with
   `answers(**parameters)` and `delay(**parameters)` and read its weights, without `defend`.

How the published kinds fit:

- a loss on logits sets `loss` and, with soft labels, `targets` (`gecko`); the set-up's own loss has the recipe's class
  weights, and one of a defence that reads labels takes them from `nas.training.loop.class_weights` (`relaxloss`);
- soft labels from teachers that have not seen their records come from `nas.training.distillation.soft_labels`, which
  refuses all others (`cross_distillation`, `selena`); a student of other records has other `features`
  (`distillation`);
- a loss that looks inside the network or keeps state is a step made by `nas.training.loop.descend` (`relaxloss`,
  `neuguard`); so is one on other inputs than the members themselves (`mixup`);
- per-example gradients and noise are a step of their own, with `batches` and a `guarantee`;
- a game against an attacker network is a step that trains the attacker too, on `setup.reserve`
  (`adversarial_regularization`);
- records kept aside, and the weights of another epoch, need `make_watch` (`early_stopping`);
- a mask on the answers needs `answers` (`confidence_rounding`, `memguard`), one on their times `delay` (`timeguard`).

Label smoothing, dropout and weight decay are settings of the recipe, which a search samples beside any defence; no file
here says them a second time, and a defence leaves the recipe as it is.

Names with a plus between them, `gecko+early_stopping`, are one defence: its parts act in this order, each on the set-up
that the one before returned (`nas.training.defence.combination`). Two that change the same thing are refused, and so is
any that learns from the records beside one that states a guarantee: nothing is passed over.

A defence must repeat from the set-up's seed, and train the architecture that it was given: that one was priced.
"""
