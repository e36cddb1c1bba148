"""The web application: looks at a store in a browser while sweeps write to it."""
