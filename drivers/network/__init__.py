"""Networks on this host: managed bridges with their addresses, dnsmasq and firewall, and what interfaces there are."""
