"""What compares methods: the runs of a suite, their cost, tables and the report. Nothing that trains needs it."""
