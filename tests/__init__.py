import os

# gcsfs looks at it when it is imported, whoever does so first: with it on, each call asks the
# tests' server by gRPC, which it does not speak.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
