"""The agent's side of CNI: what a container runtime asks through the plugin (`nodeagent/cni`) is done here."""
