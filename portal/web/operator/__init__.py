"""The operator's desk: pages for those who give cards and help people."""
