"""The enim CNI IPAM plugin and the exclusive-device plugin: standard library only, imports almost nothing."""
