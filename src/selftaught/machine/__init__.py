"""The machine: devices, threads, freed memory, full disks."""
