import pytest
import torch

from pipelines.estimators.standardised_features import StandardisedFeatures
from tests.pipelines.estimators.test_logistic import correlated_features


@pytest.mark.parametrize("n, d", [(120, 24), (60, 200)])
def test_the_smaller_product_with_itself_is_computed_once(rng, n, d):
    shared = StandardisedFeatures.of(torch.tensor(correlated_features(rng, n=n, d=d)))
    product = shared.scaled @ shared.scaled.T if d > n else shared.scaled.T @ shared.scaled / n
    torch.testing.assert_close(shared.gram.tril(), product.tril(), atol=1e-3, rtol=1e-4)
    assert shared.gram is shared.gram


@pytest.mark.parametrize("n, d", [(120, 24), (60, 200)])
def test_moments_of_a_mask_are_computed_once(rng, n, d):
    features = torch.tensor(correlated_features(rng, n=n, d=d))
    shared, masks, others = StandardisedFeatures.of(features), *(rng.random((2, n, 3)) < 0.8)
    means, inverse_stds = shared.moments(masks)
    selected = [shared.scaled[torch.tensor(mask)] for mask in masks.T]
    torch.testing.assert_close(means, torch.stack([rows.mean(dim=0) for rows in selected]))
    torch.testing.assert_close(1 / inverse_stds, torch.stack([rows.std(dim=0, correction=0) for rows in selected]))
    shared.__dict__["_squares"] = None  # to compute others needs them
    again = shared.moments(masks[:, [1, 0, 1]])
    assert torch.equal(again[0], means[[1, 0, 1]]) and torch.equal(again[1], inverse_stds[[1, 0, 1]])
    with pytest.raises(TypeError):
        shared.moments(others)


@pytest.mark.parametrize("n, d", [(120, 24), (600, 2000)])
def test_products_are_those_with_every_row_and_feature(rng, n, d):
    shared = StandardisedFeatures.of(torch.tensor(correlated_features(rng, n=n, d=d)))
    slopes, shares = torch.randn(6, d), torch.randn(6, n)
    torch.testing.assert_close(shared.projected(slopes), slopes @ shared.scaled.T, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(shared.summed(shares), shares @ shared.scaled, atol=1e-3, rtol=1e-4)
