"""Plotly figures of a run, one file each: plain functions, for notebooks and for the page of `nas report`."""
