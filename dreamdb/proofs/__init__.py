"""Proofs: small certificates that a record is, or is not, in a version of a dataset."""

from dreamdb.proofs.certificate import Certificate, Part
from dreamdb.proofs.claim import Proof, verify_proof
from dreamdb.proofs.prove import prove_record

__all__ = ["Certificate", "Part", "Proof", "prove_record", "verify_proof"]
