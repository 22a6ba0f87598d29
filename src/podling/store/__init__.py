"""The store: a revisioned log of bytes. `base` is the contract; `memory` and `sqlite` keep it."""
