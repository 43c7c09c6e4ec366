"""`python -m cyclemlp …` is `cyclemlp …`."""

from cyclemlp.cli.main import main

raise SystemExit(main())
