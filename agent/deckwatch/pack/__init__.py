"""The dashboards, alert rules and runbooks that ship with the agent."""
