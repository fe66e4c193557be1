"""One fit shared by several processes: who they are, what each looks at, and how their gradients become one."""
