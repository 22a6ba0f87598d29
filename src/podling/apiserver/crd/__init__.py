"""Custom resources: what a CustomResourceDefinition makes the server serve.

loading       loads all the others when the first definition comes
controller    accepts names, establishes, serves and finally removes what definitions define
served        a definition as resources: for each version a row, a strategy, a codec and a view
objects       custom objects, and their bytes
structural    schemas, compiled: pruning, defaulting, embedded metadata
validation    values against a schema, in upstream's words; formats has the string formats
lists         lists that are sets or maps
embedded      objects inside of objects
rules         x-kubernetes-validations
definition    what is to be checked of a definition's schema itself: defaults and rules
conversion    from one version to another: by changing the name of the version, or by a webhook
strategy      what is special about a custom kind, which its definition says
facets        /status and /scale
json_path     the paths of printer columns, scale and selectable fields
publish       OpenAPI definitions, for kubectl's explain and its validation
"""
