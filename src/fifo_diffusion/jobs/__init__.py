"""One video as a job: what is asked for, checked before weights are loaded; files, locks, states and costs."""
