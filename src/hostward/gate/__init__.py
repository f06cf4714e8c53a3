"""The gate: what the trusted NIC runs. It quarantines a host that holds no valid lease (design §7; invariant 11).

A lease has two halves. The *grant* comes from the controller, signed, over the gate's own channel, which the host cannot
block. The *pulse* comes from the host's sentinel, signed by a key that the last appraisal bound. The network is open only
while the deadlines of both are ahead; the driver closes by itself when the earlier one passes, whatever else has died.

This package trusts nothing that a host sends, keeps nothing that a host can make grow, and reads no wall clock.
"""
