"""/openapi/v2 and /openapi/v3: what kubectl explains, validates and merges by.

schemas     definitions, made of the generated types, with descriptions if the schema wheel is installed
paths       operations, made of what is served
gnostic     the protobuf form of the v2 document, which kubectl asks for
document    puts them together, keeps them, and answers
"""
