"""What tests share: real services, stubs, faults and sample files. No tests."""
