"""From a migration to a plan: four phases of steps, each with its undo."""
