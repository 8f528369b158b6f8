"""node: one member: it joins the store and the drivers."""
