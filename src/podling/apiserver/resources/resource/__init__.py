"""Strategies of the resource group."""
