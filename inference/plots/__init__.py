"""Pictures of comparisons and fits; all that are public stand in `pyrometer.plots`."""
