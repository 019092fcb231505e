"""What others see of the lakehouse at work: metrics, log lines and lineage. A load goes on where nobody takes them."""
