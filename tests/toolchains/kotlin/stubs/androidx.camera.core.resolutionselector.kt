package androidx.camera.core.resolutionselector

import android.util.Size

class ResolutionStrategy(boundSize: Size, fallbackRule: Int) {
    init {
        check(boundSize.width > 0 && fallbackRule == FALLBACK_RULE_CLOSEST_HIGHER_THEN_LOWER)
    }

    companion object {
        const val FALLBACK_RULE_CLOSEST_HIGHER_THEN_LOWER = 2
    }
}

class ResolutionSelector private constructor() {
    class Builder {
        fun setResolutionStrategy(resolutionStrategy: ResolutionStrategy): Builder = apply { check(resolutionStrategy.hashCode() != -1) }

        fun build(): ResolutionSelector = ResolutionSelector()
    }
}
