"""The `fifo-diffusion` command: options, messages, exit codes."""
