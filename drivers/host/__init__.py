"""What this machine is: its control groups, processors, memory and id ranges."""
