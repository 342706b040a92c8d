"""openNDS: gateways that know no RADIUS, spoken for."""
