"""Teachers of knowledge distillation: frozen networks by name, and the loss that asks one."""

from cyclemlp.teachers.creation import create_teacher, list_teachers
from cyclemlp.teachers.distillation import DistillationLoss, build_loss
from cyclemlp.teachers.teacher import Teacher

__all__ = ["DistillationLoss", "Teacher", "build_loss", "create_teacher", "list_teachers"]
