"""The office's pages at the hub, under /review: sites, hours, usage, boxes, documents, alarms."""
