"""Retired months of the audit as files: Parquet beside a manifest that says what they must hold.

manifest    what stands in a directory, as values; written last, so that what it names is whole
parquet     rows of the audit as columns, in row groups of bounded size, sorted by their time
sums        a count and a sum of hashes, which PostgreSQL and the files are both asked for
duck        questions to the files: DuckDB, shut in the archives' directory
keeping     a month is written, proved and noted; one written by an older MUTT is made anew
checking    are the files what their manifests say?
redacting   rows of the files without what redactions take out
reading     rows of the files for pages and back-tests
bulk        whole rows, for exports and for what puts a month back
"""
