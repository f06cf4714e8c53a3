"""The sentinel: reads each second what the kernel enforces, and keeps the gate's pulse while it is what was attested.

A process of its own, so that the agent may die and come back without a broken flow, and small, so that there is little in
it that could go wrong (design §7). It changes nothing on the host, and its key is never written anywhere.
"""
