"""What keeps the promises: launchers, supervisors, pools, the job loop, metering."""
