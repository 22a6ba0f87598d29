"""Strategies of the admissionregistration group."""
