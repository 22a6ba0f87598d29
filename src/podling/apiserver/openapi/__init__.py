"""/openapi/v2 and /openapi/v3: what kubectl explains, validates and merges by.

schemas     definitions, made of the generated types, with descriptions if the schema wheel is installed
facts       tables of what the types don't say: enums, defaults, unions
paths       operations, made of what is served; parameters and routes beside it
shapes      what both flavours say of an operation
swagger     the v2 document; openapi3 one of v3
gnostic     the protobuf form of v2, which kubectl asks for; gnostic3 that of v3, both written by messages
merge       other servers' documents
document    puts them together, keeps them, and answers
"""
