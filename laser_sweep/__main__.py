"""`python -m laser_sweep`."""

from laser_sweep.cli import main

if __name__ == "__main__":
    main()
