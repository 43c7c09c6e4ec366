"""From an image to named classes, a mask or objects, with any model: trained here, a weight file, or exported."""

from cyclemlp.predictor.predictor import ImagePrediction, NamedClass, NamedObject, Predictor

__all__ = ["ImagePrediction", "NamedClass", "NamedObject", "Predictor"]
