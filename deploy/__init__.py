"""What runs the service on other machines: settings of its servers, certificates, and a trial of the containers."""
