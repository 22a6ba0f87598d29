"""Wire formats beside JSON.

fields           the field numbers of protobuf messages, from a generated table
protobuf         the envelope of protobuf bodies and answers
proto_reader     protobuf messages into dicts and lists
proto_writer     objects into protobuf messages
proto_answers    lists, objects and events in protobuf, made once for all who ask
cbor             CBOR bodies and answers
yaml             YAML bodies and answers
"""
