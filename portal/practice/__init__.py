"""The practice gateway: a hotspot in software, to see the whole way without a router."""
