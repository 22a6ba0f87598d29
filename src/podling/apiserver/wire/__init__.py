"""Wire formats beside JSON.

media            the media types, and what is accepted and answered in them
fields           the field numbers of protobuf messages
protobuf         the envelope of protobuf bodies and answers
proto_reader     protobuf messages into dicts and lists
proto_writer     objects into protobuf messages
cbor             CBOR bodies and answers
yaml             YAML bodies and answers
"""
