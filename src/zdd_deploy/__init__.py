"""zdd-deploy: rolling, canary and blue-green releases that walk a plan's phases."""
