"""The shop's rename released under load, with an independent count of what clients were told."""
