"""What the trace explorer, the layer trajectories and the comparison draw: values of traces, cells of grids, and windows."""
