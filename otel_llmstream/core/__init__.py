"""Sans-IO vocabulary and state: events, state tables, stream, summary. Imports no other folder of the package."""
