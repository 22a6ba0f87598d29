"""Server-side apply: who owns which field, and what an apply or an update makes of an object (KEP-555).

Pure. The schema is a `merge_schema.Node`, managers are field sets by manager. `apply` merges an author's intent into
the live object, both dicts in wire form; `compare` and `update` find out what a plain write changed, and since that
runs on every write, they take objects of generated types as they are. What nobody can own (the name, the version) is
left out of both from the start. What the managers own is kept in metadata.managedFields (see
`apiserver.managed_fields`).

The rules are those of sigs.k8s.io/structured-merge-diff, and so are the words of what does not fit a schema.

    fields     which fields an object has      intent     what an intent may say
    merge      an intent into a live object    compare    two versions of an object
    managers   who writes                      ownership  all of it together: apply and update
"""

from podling.machinery.apply.compare import Difference, compare
from podling.machinery.apply.fields import Object, SchemaMismatch, fields_of, items
from podling.machinery.apply.intent import check
from podling.machinery.apply.managers import ApplyConflict, Conflict, Manager, Managers
from podling.machinery.apply.merge import merge
from podling.machinery.apply.ownership import Applied, apply, remove, taken, update

__all__ = [
    "Applied", "ApplyConflict", "Conflict", "Difference", "Manager", "Managers", "Object", "SchemaMismatch", "apply",
    "check", "compare", "fields_of", "items", "merge", "remove", "taken", "update",
]  # fmt: skip
