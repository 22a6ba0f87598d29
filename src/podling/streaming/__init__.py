"""Streams over HTTP connections: what exec, attach, port-forward and proxies are made of.

connection       a duplex of bytes; taking an upgraded connection over from the HTTP server
spdy             SPDY/3.1: many streams on one connection (kubectl up to 1.30, and inside the tunnel of newer ones)
websocket        the channel protocols, and WebSocket as a plain duplex
remote_command   exec and attach over either, mapped to runtime.base.Streams
port_forward     port forwarding over either
upstream         the client side: an HTTP/1.1 request whose answer is a stream or an upgrade
"""
