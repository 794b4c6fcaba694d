"""Cases: what users report, whether it is fraud or a dispute, and the investigation that follows."""
