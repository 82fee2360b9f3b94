"""Removing live copies that are proven safe elsewhere: policy, plan, proofs, decision, execution, trash, purge, undo.

Nothing here deletes anything yet: the room holds no code until the prune protocol is built whole.
"""
