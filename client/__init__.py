"""Adapters of outside services, one folder each, which alone imports that service's SDK. No rule of the application."""
