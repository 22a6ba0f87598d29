"""Encryption at rest: values are encrypted on their way into the store, and decrypted on their way out of it.

`EncryptedStore` (`store.py`) stands between the watch cache and the store if `--encryption-provider-config` is given;
without, it is not there. The file (`config.py`) says which resources are written by which provider, and by which ones
they can be read; `transformers.py` makes that of it, with `aes.py`, `secretbox.py`, `identity.py` and `kms.py`. It is
read again when it changes (`reload.py`), if that is wished. Stored values have upstream's prefixes, and their keys in
the store are authenticated with them.
"""
