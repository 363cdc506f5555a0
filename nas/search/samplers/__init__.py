"""Samplers: what a search trains next. One file each; `make_sampler(plan, seed)` returns an Optuna sampler.

A sampler is made anew for each trial and remembers nothing: all that it knows is in the study. Whatever it caches must
be the same in every process, so that a search that was killed goes on as if nothing had happened.
"""
